# What the token of an operator may do who deploys a mesh CA with Vault (the layer authority) and provisions the HSM
# client's secret. asm-c1 is the cluster's mount (authority.vault.mount). Nothing here reads the secret.

# Pulumi's provider works with a short-lived child of the token.
path "auth/token/create" {
  capabilities = ["update"]
}

# The mount of the secret.
path "sys/mounts" {
  capabilities = ["read"]
}
path "sys/mounts/asm-c1" {
  capabilities = ["create", "read", "update", "delete"]
}
path "sys/mounts/asm-c1/tune" {
  capabilities = ["create", "read", "update"]
}

# istiod's policy.
path "sys/policies/acl/asm-c1-hsm-policy" {
  capabilities = ["create", "read", "update", "delete"]
}
path "sys/policy/asm-c1-hsm-policy" {
  capabilities = ["create", "read", "update", "delete"]
}

# The Kubernetes auth method. Vault asks for sudo where auth methods come and go.
path "sys/auth" {
  capabilities = ["read"]
}
path "sys/auth/asm-c1/hsm" {
  capabilities = ["create", "read", "update", "delete", "sudo"]
}
path "sys/auth/asm-c1/hsm/tune" {
  capabilities = ["create", "read", "update", "sudo"]
}
path "auth/asm-c1/hsm/config" {
  capabilities = ["create", "read", "update"]
}
path "auth/asm-c1/hsm/role/istiod" {
  capabilities = ["create", "read", "update", "delete"]
}

# With kv version 2: how many versions of the secret are kept.
path "asm-c1/metadata/hsm" {
  capabilities = ["create", "read", "update"]
}

# `python -m authority provision` writes the secret: kv version 2, then version 1.
path "asm-c1/data/hsm" {
  capabilities = ["create", "update"]
}
path "asm-c1/hsm" {
  capabilities = ["create", "update"]
}
# Which of the two a mount is.
path "sys/internal/ui/mounts/asm-c1" {
  capabilities = ["read"]
}

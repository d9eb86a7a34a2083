"""The security administrator's commands: the mesh's root key in a PKCS#11 token, the HSM client's secret in Vault."""

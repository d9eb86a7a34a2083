"""What a GKE cluster has of Google around it: metadata server and storage, as stand-ins in the machine `google`.

They say who may do what as the real ones do (project.yaml is their IAM); nothing can be changed through them.
"""

"""Probes: what each scenario promises, asked of a live cluster with real traffic.

`python -m verify --stack S` runs them. A scenario is a module with `probes(settings) -> list[Probe]`, named in
`verify.scenarios`; the rest of this package is what probes share.
"""

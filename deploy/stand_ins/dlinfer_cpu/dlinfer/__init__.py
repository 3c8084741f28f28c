"""Stand-in, for a CPU, for the package through which LMDeploy reaches devices other than NVIDIA's."""

"""The Pulumi program: workloads, components, runtimes and the stack they make. It only declares."""

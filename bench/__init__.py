"""What the benchmark needs beside the package: C sources and this way to start it."""

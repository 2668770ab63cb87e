"""The study of handwritten digits behind `gpukmeans mnist` and `gpukmeans digits`."""

"""What all benchmarks share: items and sources, stored generations and grades, scores and their errors."""

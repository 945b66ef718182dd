"""`seethink hallucination`: responses that say that the image cannot be seen."""

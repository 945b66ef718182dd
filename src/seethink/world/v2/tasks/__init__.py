"""Task families: what is asked of a scene, and how a teacher thinks about it."""

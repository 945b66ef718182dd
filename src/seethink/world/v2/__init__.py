"""The second world: pictures of 112 x 112, tasks in which a second look has a use, and items keyed by stage."""

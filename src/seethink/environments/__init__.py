"""Tools that answer a model's turns during an episode: a calculator, and a look at a part of the picture."""

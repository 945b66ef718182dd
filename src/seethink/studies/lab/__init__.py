"""The paper's experiments as commands. A TOML file per experiment states arms, claims and the smallest effect."""

"""The figures: ``style`` is their one look, ``ladder`` draws the local layer, ``published`` the published one."""

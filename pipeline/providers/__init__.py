"""Who parses and who embeds: the two protocols, what paid services share, and the services themselves."""

"""Other systems' protocols, spoken by this daemon."""

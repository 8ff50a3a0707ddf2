"""Do certificates claim too much? Hostile random problems, judged in extended precision."""

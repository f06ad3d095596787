"""Student models: the small networks that edges run, their weights and their export."""

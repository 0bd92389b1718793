"""Models as Hugging Face folders, out and in, and the names under which other tools know their sites."""

"""Export to and import from Hugging Face folders, and the names of our sites in other tools."""

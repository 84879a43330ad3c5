"""The scripted demonstrator of the ALOHA tasks."""

"""Models and data sets of Hugging Face and ModelScope, by the hubs' own clients, each imported when it is used."""

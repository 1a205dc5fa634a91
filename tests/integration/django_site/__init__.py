"""A Django project as users write it."""

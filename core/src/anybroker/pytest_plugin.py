"""Fixtures for the tests of your own tasks."""

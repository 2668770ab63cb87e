"""The estimators and functions of the public interface."""

"""The rows that Lloyd's algorithm starts from: k-means++, k-means|| and random rows."""

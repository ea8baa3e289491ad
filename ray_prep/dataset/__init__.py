"""What stands on disk: Parquet shards, the Delta table over them, the record of each version, and the reader."""

"""What several tests share: small data sets, published forms, writers of files."""

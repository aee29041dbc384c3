"""What a run would trip over, and what it will do and take: found before anything runs."""

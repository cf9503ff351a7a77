"""What users notice of moved weights and of a bad feature: each answer's own times, under steady load."""

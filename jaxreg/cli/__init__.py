"""What people touch: files in, the sweep, pictures, the report, the command. Nothing else imports it."""

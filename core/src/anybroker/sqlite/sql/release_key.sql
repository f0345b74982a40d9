DELETE FROM claims WHERE key = :key AND token = :token AND expires_at > :now

INSERT INTO claims (key, token, expires_at)
VALUES (:key, :token, :expires_at)
ON CONFLICT (key) DO UPDATE
SET token = excluded.token, expires_at = excluded.expires_at
WHERE claims.expires_at <= :now

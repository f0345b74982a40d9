INSERT INTO groups (id, finished, sealed, expires_at)
VALUES (:group_id, 0, 1, :expires_at)
ON CONFLICT (id) DO UPDATE
SET sealed = 1, expires_at = excluded.expires_at

INSERT INTO groups (id, finished, sealed, expires_at)
VALUES (:group_id, :added, 0, :expires_at)
ON CONFLICT (id) DO UPDATE
SET finished = finished + :added, expires_at = excluded.expires_at
RETURNING finished, sealed

DELETE FROM messages
WHERE id = :id AND queue = :queue AND (state <> 1 OR due_at <= :now)
RETURNING ordering_key

-- A new version that keeps its place: the same queue and ordering_key.
UPDATE messages
SET
    priority = :priority,
    state = CASE WHEN :due_at > :now THEN 2 ELSE 0 END,
    due_at = :due_at,
    token = random(),
    delivery_count = 0,
    eta = :eta,
    body = :body
WHERE seq = :seq AND token = :token

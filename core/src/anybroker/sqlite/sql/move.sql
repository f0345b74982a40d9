-- A new version that arrives elsewhere, behind everything that is there.
UPDATE messages
SET
    seq = (SELECT MAX(seq) + 1 FROM messages),
    queue = :queue,
    priority = :priority,
    ordering_key = :ordering_key,
    state = CASE
        WHEN
            :ordering_key IS NOT NULL
            AND EXISTS (SELECT 1 FROM messages WHERE queue = :queue AND ordering_key = :ordering_key)
        THEN 3
        WHEN :due_at > :now THEN 2
        ELSE 0
    END,
    due_at = :due_at,
    token = random(),
    delivery_count = 0,
    eta = :eta,
    body = :body
WHERE seq = :seq AND token = :token

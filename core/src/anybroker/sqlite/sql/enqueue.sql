-- ?1 id, ?2 queue, ?3 priority, ?4 ordering_key, ?5 due_at, ?6 eta, ?7 body, ?8 now
INSERT INTO messages (id, queue, priority, ordering_key, state, due_at, token, delivery_count, eta, body)
VALUES (
    ?1, ?2, ?3, ?4,
    CASE
        WHEN ?4 IS NOT NULL AND EXISTS (SELECT 1 FROM messages WHERE queue = ?2 AND ordering_key = ?4) THEN 3
        WHEN ?5 > ?8 THEN 2
        ELSE 0
    END,
    ?5, random(), 0, ?6, ?7
)
ON CONFLICT (id) DO NOTHING

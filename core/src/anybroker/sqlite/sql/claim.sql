-- The body is cast since any program may have written it, as a text perhaps.
UPDATE messages
SET state = 1, due_at = :until, token = random(), delivery_count = delivery_count + 1
WHERE seq IN (
    SELECT seq FROM messages
    WHERE queue = :queue AND state = 0
    ORDER BY priority DESC, seq
    LIMIT :limit
)
RETURNING seq, token, delivery_count, id, priority, ordering_key, eta, CAST(body AS BLOB)

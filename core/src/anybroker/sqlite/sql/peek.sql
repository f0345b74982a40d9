SELECT id, priority, ordering_key, eta, CAST(body AS BLOB)
FROM messages
WHERE seq IN (
    SELECT seq FROM (
        SELECT * FROM (
            SELECT seq, priority FROM messages
            WHERE queue = :queue AND state = 0
            ORDER BY priority DESC, seq LIMIT :limit
        )
        UNION ALL
        SELECT * FROM (
            SELECT seq, priority FROM messages
            WHERE queue = :queue AND state IN (1, 2)
            ORDER BY priority DESC, seq LIMIT :limit
        )
        UNION ALL
        SELECT * FROM (
            SELECT seq, priority FROM messages
            WHERE queue = :queue AND ordering_key IS NOT NULL AND state = 3
            ORDER BY priority DESC, seq LIMIT :limit
        )
    )
    ORDER BY priority DESC, seq LIMIT :limit
)
ORDER BY priority DESC, seq

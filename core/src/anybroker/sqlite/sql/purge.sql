-- A bite of what a queue held when the purge began and nobody holds a lease of.
DELETE FROM messages
WHERE seq IN (
    SELECT seq FROM messages WHERE queue = :queue AND ordering_key IS NOT NULL AND state = 3 AND seq <= :newest
    UNION ALL
    SELECT seq FROM messages
    WHERE queue = :queue AND state IN (1, 2) AND (state = 2 OR due_at <= :now) AND seq <= :newest
    UNION ALL
    SELECT seq FROM messages WHERE queue = :queue AND state = 0 AND seq <= :newest
    LIMIT :limit
)
RETURNING ordering_key

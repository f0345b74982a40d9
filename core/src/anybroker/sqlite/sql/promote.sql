-- What was delayed or leased until now is ready. The token stays: an expired lease counts until it is given to others.
UPDATE messages SET state = 0
WHERE seq IN (
    SELECT seq FROM messages
    WHERE queue = :queue AND state IN (1, 2) AND due_at <= :now
    ORDER BY due_at
    LIMIT :limit
)

-- The oldest message that is left with an ordering_key is blocked no more.
UPDATE messages
SET state = CASE WHEN due_at > :now THEN 2 ELSE 0 END, due_at = MAX(due_at, :now)
WHERE
    seq = (SELECT MIN(seq) FROM messages WHERE queue = :queue AND ordering_key = :ordering_key)
    AND state = 3

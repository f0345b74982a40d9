-- Jumps from name to name along each index instead of reading every message.
WITH RECURSIVE
ready (queue) AS (
    SELECT MIN(queue) FROM messages WHERE state = 0
    UNION ALL
    SELECT (SELECT MIN(queue) FROM messages WHERE state = 0 AND queue > ready.queue)
    FROM ready WHERE queue IS NOT NULL
),
waiting (queue) AS (
    SELECT MIN(queue) FROM messages WHERE state IN (1, 2)
    UNION ALL
    SELECT (SELECT MIN(queue) FROM messages WHERE state IN (1, 2) AND queue > waiting.queue)
    FROM waiting WHERE queue IS NOT NULL
)
SELECT queue FROM ready WHERE queue IS NOT NULL
UNION
SELECT queue FROM waiting WHERE queue IS NOT NULL
ORDER BY queue

WITH
ready AS (
    SELECT COUNT(*) AS number, MIN(due_at) AS oldest FROM messages WHERE queue = :queue AND state = 0
),
due AS (
    SELECT COUNT(*) AS number, MIN(due_at) AS oldest
    FROM messages WHERE queue = :queue AND state IN (1, 2) AND due_at <= (SELECT now FROM clock)
),
waiting AS (
    SELECT COUNT(*) FILTER (WHERE state = 1) AS leased, COUNT(*) FILTER (WHERE state = 2) AS delayed
    FROM messages WHERE queue = :queue AND state IN (1, 2) AND due_at > (SELECT now FROM clock)
),
blocked AS (
    SELECT COUNT(*) AS number FROM messages WHERE queue = :queue AND ordering_key IS NOT NULL AND state = 3
)
SELECT
    ready.number + due.number,
    waiting.leased,
    waiting.delayed + blocked.number,
    clock.now - MIN(IFNULL(ready.oldest, due.oldest), IFNULL(due.oldest, ready.oldest))
FROM ready, due, waiting, blocked, clock

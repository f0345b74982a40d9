-- One writer wins: the rule of Result.replaces. ?1 id, ?2 state, ?3 final, ?4 attempt, ?5 expires_at, ?6 body, ?7 now
INSERT INTO results (id, state, final, attempt, expires_at, body)
VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (id) DO UPDATE
SET
    state = excluded.state,
    final = excluded.final,
    attempt = excluded.attempt,
    expires_at = excluded.expires_at,
    body = excluded.body
WHERE
    excluded.attempt > results.attempt
    OR (excluded.attempt = results.attempt AND NOT results.final)
    OR results.expires_at <= ?7

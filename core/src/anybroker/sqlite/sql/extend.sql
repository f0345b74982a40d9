UPDATE messages SET state = 1, due_at = :until
WHERE seq IN (SELECT value FROM json_each(:seqs)) AND token IN (SELECT value FROM json_each(:tokens))
RETURNING token

UPDATE messages SET state = 0, due_at = MIN(due_at, :now), token = random()
WHERE seq IN (SELECT value FROM json_each(:seqs)) AND token IN (SELECT value FROM json_each(:tokens))

DELETE FROM groups WHERE id = :group_id AND expires_at <= :now

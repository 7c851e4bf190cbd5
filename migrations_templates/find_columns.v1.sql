SELECT string_agg(format('(%L, concat(o.%I) COLLATE pg_catalog."C")', c.source, a.attname), ', ' ORDER BY c.i) FILTER (WHERE c.source <> ''),
           CASE WHEN count(*) FILTER (WHERE c.source = '') = {primary_key_count:q}
                THEN {key_prefix:l} || string_agg(format('concat(o.%I)', a.attname), ', ' ORDER BY c.i) FILTER (WHERE c.source = '') || {key_suffix:l}
            END
      INTO _list, _pk
      FROM unnest({all_sources:q}, {columns:q}, {attnums:q}) WITH ORDINALITY AS c(source, name, attnum, i)   -- the primary key: no source
      JOIN LATERAL (
          SELECT x.attname
            FROM pg_attribute x
            LEFT JOIN pg_attribute r ON r.attrelid = coalesce(pg_partition_root(TG_RELID), TG_RELID)
                                    AND r.attnum = c.attnum AND NOT r.attisdropped
           WHERE x.attrelid = TG_RELID AND NOT x.attisdropped AND x.attname IN (c.name, r.attname)
           ORDER BY x.attname <> c.name LIMIT 1) a ON true;

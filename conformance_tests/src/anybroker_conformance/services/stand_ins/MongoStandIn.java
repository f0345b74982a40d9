import de.bwaldvogel.mongo.MongoCollection;
import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.DefaultQueryMatcher;
import de.bwaldvogel.mongo.backend.aggregation.stage.AddFieldsStage;
import de.bwaldvogel.mongo.backend.aggregation.stage.ReplaceRootStage;
import de.bwaldvogel.mongo.backend.aggregation.stage.UnsetStage;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import de.bwaldvogel.mongo.bson.BsonTimestamp;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.exception.MongoServerError;
import de.bwaldvogel.mongo.exception.MongoServerException;
import de.bwaldvogel.mongo.wire.bson.BsonDecoder;
import de.bwaldvogel.mongo.wire.bson.BsonEncoder;
import de.bwaldvogel.mongo.wire.message.MongoMessage;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.channel.Channel;
import io.netty.channel.embedded.EmbeddedChannel;
import java.io.BufferedInputStream;
import java.io.DataInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.ReentrantReadWriteLock;
import java.util.function.Supplier;
import java.util.stream.Stream;

/**
 * mongo-java-server in memory with a journal, and with the gaps filled that a queue meets: updates and upserts by
 * pipeline, timestamps that the server sets and never repeats, TTL indexes, the count of an insert that partly failed,
 * the answers that clients expect about sessions and transactions. What is still missing is refused with an error, never
 * ignored.
 *
 * <p>Every write is in the journal before it is answered, with the time that the server read for it, so that a server
 * that was killed finds again what it had. Writes exclude one another and all reads.
 *
 * <p>Arguments: port, file.
 */
public class MongoStandIn extends MemoryBackend {
  private static final Set<String> WRITES =
      Set.of(
          "insert", "update", "delete", "findandmodify", "create", "createindexes", "drop", "dropdatabase",
          "dropindexes", "deleteindexes", "renamecollection", "aggregate");
  private static final int ALL = 1_000_000;
  private static final BsonTimestamp EMPTY = new BsonTimestamp(0L);
  private static final String OPLOG_DATABASE = "local";
  private static final DefaultQueryMatcher MATCHER = new DefaultQueryMatcher();
  private static final int TTL_MILLISECONDS = 1_000;

  private static final long JOURNAL_BYTES = 4L << 20;

  /** How far a change stream can look back. */
  private static final int OPLOG_SECONDS = 60;

  /** What is older is looked for among all that is there, while everybody waits: so not each time that TTL indexes are. */
  private static final int TRIMMED_EVERY = 20;

  /** Held to write by all writes, and to read by all reads. */
  private final ReentrantReadWriteLock lock = new ReentrantReadWriteLock(true);

  private final AtomicLong lastTimestamp = new AtomicLong();
  private final Channel ownChannel = new EmbeddedChannel();
  private final Path file;
  private FileChannel journal;

  /** Bytes of the journal above which a new one is begun, so that a start has not much to do again. */
  private long full;

  MongoStandIn(Path file) {
    this.file = file;
  }

  @Override
  public Document handleMessage(MongoMessage message) {
    Document query = message.getDocument();
    String command = query.keySet().iterator().next();
    return answer(message.getChannel(), message.getDatabaseName(), command, query);
  }

  private Document answer(Channel channel, String database, String command, Document query) {
    if (query.containsKey("startTransaction") || query.containsKey("autocommit")) {
      return noTransactions();
    }
    switch (command.toLowerCase(Locale.ROOT)) {
      case "committransaction", "aborttransaction":
        return noTransactions();
      case "endsessions", "refreshsessions", "killsessions":
        return new Document("ok", 1.0);
      case "startsession":
        return error(59, "CommandNotFound", "no such command: 'startSession'");
      case "hello", "ismaster":
        return hello(channel, database, query);
      case "createindexes":
        return hasPartialUniqueIndex(query)
            ? error(238, "NotImplemented", "partial unique indexes are not implemented")
            : write(channel, database, command, query);
      case "aggregate":
        return aggregate(channel, database, command, query);
      default:
        return WRITES.contains(command.toLowerCase(Locale.ROOT))
            ? write(channel, database, command, query)
            : read(
                () -> {
                  narrow(database, query.get(command), query, "filter");
                  return super.handleCommand(channel, database, command, query);
                });
    }
  }

  private Document hello(Channel channel, String database, Document query) {
    Document answer = super.handleCommand(channel, database, "isMaster", query);
    answer.put("isWritablePrimary", true);
    answer.put("logicalSessionTimeoutMinutes", 30);
    answer.put("helloOk", true);
    return answer;
  }

  private static boolean hasPartialUniqueIndex(Document query) {
    return documents(query.get("indexes")).stream()
        .anyMatch(index -> index.containsKey("partialFilterExpression") && Boolean.TRUE.equals(index.get("unique")));
  }

  /** A read, a change stream, or a write by $out or $merge. */
  private Document aggregate(Channel channel, String database, String command, Document query) {
    if (query.get("pipeline") instanceof Collection<?> pipeline) {
      query.put("pipeline", stages(pipeline));
    }
    String text = String.valueOf(query.get("pipeline"));
    if (text.contains("$out") || text.contains("$merge")) {
      return write(channel, database, command, query);
    }
    Document answer = read(() -> super.handleCommand(channel, database, command, query));
    if (text.contains("$changeStream")) {
      answer.put("operationTime", new BsonTimestamp(Instant.now().getEpochSecond() << 32 | 1));
    }
    return answer;
  }

  private Document read(Supplier<Document> command) {
    lock.readLock().lock();
    try {
      return command.get().cloneDeeply(); // it is sent when others may write again
    } finally {
      lock.readLock().unlock();
    }
  }

  private Document write(Channel channel, String database, String command, Document query) {
    lock.writeLock().lock();
    try {
      setTimes(command.toLowerCase(Locale.ROOT), query);
      ByteBuf entry = entry(database, command, query); // now, for executing may change it
      Document answer = execute(channel, database, command, query).cloneDeeply();
      append(entry);
      return answer;
    } finally {
      lock.writeLock().unlock();
    }
  }

  private Document execute(Channel channel, String database, String command, Document query) {
    String name = command.toLowerCase(Locale.ROOT);
    if (name.equals("update")) {
      return updateOneByOne(channel, database, query);
    }
    if (name.equals("findandmodify") && query.get("update") instanceof Collection) {
      return findAndModifyByPipeline(channel, database, command, query);
    }
    documents(query.get("deletes")).forEach(deletion -> narrow(database, query.get(command), deletion, "q"));
    Document answer = super.handleCommand(channel, database, command, query);
    if (name.equals("insert")) {
      countInserted(query, answer);
    }
    return answer;
  }

  /**
   * Lets a filter name the documents that it finds, where it names the _id and more: mongo-java-server uses its index for
   * the _id alone, and looks at all documents for anything else.
   */
  private void narrow(String database, Object collection, Document command, String field) {
    if (command.get(field) instanceof Document filter && filter.containsKey("_id") && filter.size() > 1) {
      Document rest = new Document(filter);
      List<Object> ids = new ArrayList<>();
      for (Document candidate : withIds(database, collection, rest.remove("_id"))) {
        if (MATCHER.matches(candidate, rest)) {
          ids.add(candidate.get("_id"));
        }
      }
      if (!ids.isEmpty() || !Boolean.TRUE.equals(command.get("upsert"))) {
        command.put(field, new Document("_id", new Document("$in", ids)));
      }
    }
  }

  /** Of many ids one after the other: mongo-java-server compares each that it finds with all of those that are wanted. */
  private List<Document> withIds(String database, Object collection, Object wanted) {
    MongoCollection<?> documents = resolveDatabase(database).resolveCollection(String.valueOf(collection), false);
    if (documents == null) {
      return List.of();
    }
    boolean isList = wanted instanceof Document in && in.size() == 1 && in.containsKey("$in");
    Collection<?> each =
        isList ? new LinkedHashSet<>((Collection<?>) ((Document) wanted).get("$in")) : Collections.singleton(wanted);
    return each.stream().flatMap(one -> documents.handleQueryAsStream(new Document("_id", one))).toList();
  }

  /** The journal: each command as BSON, which begins with its length. */
  private static ByteBuf entry(String database, String command, Document query) {
    Document entry = new Document("database", database);
    entry.put("command", command);
    entry.put("query", query);
    ByteBuf buffer = Unpooled.buffer();
    BsonEncoder.encodeDocument(entry, buffer);
    return buffer;
  }

  private void append(ByteBuf buffer) {
    try {
      ByteBuffer bytes = buffer.nioBuffer();
      while (bytes.hasRemaining()) {
        journal.write(bytes);
      }
      if (journal.size() > full) {
        beginJournal();
      }
    } catch (IOException failure) {
      throw new UncheckedIOException(failure);
    }
  }

  /** Do again what is in the journal, and begin a new one with what has come of it. */
  private void recover() throws IOException {
    if (Files.exists(file)) {
      try (DataInputStream entries = new DataInputStream(new BufferedInputStream(Files.newInputStream(file)))) {
        for (Document entry = next(entries); entry != null; entry = next(entries)) {
          redo((String) entry.get("database"), (String) entry.get("command"), (Document) entry.get("query"));
        }
      }
    }
    beginJournal();
    lastTimestamp.set(Instant.now().getEpochSecond() + 1 << 32); // later than all before, were they in this second
  }

  /** The next entry; null at the end, also where one was written in part when the server was killed. */
  private static Document next(DataInputStream entries) throws IOException {
    try {
      int length = Integer.reverseBytes(entries.readInt());
      ByteBuf bytes = Unpooled.buffer(length);
      bytes.writeIntLE(length);
      bytes.writeBytes(entries.readNBytes(length - Integer.BYTES));
      return bytes.readableBytes() == length ? BsonDecoder.decodeBson(bytes) : null;
    } catch (EOFException end) {
      return null;
    }
  }

  /** Begin a new journal with all that there is. */
  private void beginJournal() throws IOException {
    Path fresh = file.resolveSibling(file.getFileName() + ".new");
    journal =
        FileChannel.open(
            fresh, StandardOpenOption.CREATE, StandardOpenOption.TRUNCATE_EXISTING, StandardOpenOption.WRITE);
    full = Long.MAX_VALUE;
    databases().forEach(this::recordAll);
    Files.move(fresh, file, StandardCopyOption.ATOMIC_MOVE);
    full = 2 * journal.size() + JOURNAL_BYTES;
  }

  private void redo(String database, String command, Document query) {
    try {
      execute(ownChannel, database, command, query);
    } catch (MongoServerException refused) {
      // as it was the first time
    }
  }

  private void recordAll(String database) {
    for (Document collection : batch(database, "listCollections", 1)) {
      Object name = collection.get("name");
      List<Document> indexes = new ArrayList<>(batch(database, "listIndexes", name));
      indexes.removeIf(index -> "_id_".equals(index.get("name")));
      if (!indexes.isEmpty()) {
        append(entry(database, "createIndexes", new Document("createIndexes", name).append("indexes", indexes)));
      }
      for (Document document : results(ownChannel, database, name, List.of())) {
        append(entry(database, "insert", new Document("insert", name).append("documents", List.of(document))));
      }
    }
  }

  /** The times that the server reads: the present one for $$NOW and $currentDate, and for timestamps the next. */
  private void setTimes(String name, Document query) {
    Instant now = Instant.ofEpochMilli(System.currentTimeMillis());
    if (name.equals("insert")) {
      documents(query.get("documents")).forEach(this::fillEmptyTimestamps);
    } else if (name.equals("update") || name.equals("findandmodify") || name.equals("delete")) {
      query.replaceAll((field, value) -> atThatTime(value, now));
      documents(query.get("updates")).forEach(update -> setCurrentDates(update.get("u"), now));
      setCurrentDates(query.get("update"), now);
    }
  }

  private static Object atThatTime(Object value, Instant now) {
    if (value instanceof Document document) {
      document.replaceAll((field, each) -> atThatTime(each, now));
    } else if (value instanceof Collection<?> collection) {
      List<Object> values = new ArrayList<>();
      collection.forEach(each -> values.add(atThatTime(each, now)));
      return values;
    }
    return "$$NOW".equals(value) ? now : value;
  }

  private void fillEmptyTimestamps(Document document) {
    for (String field : new ArrayList<>(document.keySet())) {
      if (document.get(field) instanceof BsonTimestamp timestamp && timestamp.equals(EMPTY)) {
        document.put(field, nextTimestamp());
      }
    }
  }

  private void setCurrentDates(Object update, Instant now) {
    if (update instanceof Document operators && operators.remove("$currentDate") instanceof Document fields) {
      Document set = (Document) operators.computeIfAbsent("$set", key -> new Document());
      fields.forEach(
          (field, type) -> {
            boolean isTimestamp = type instanceof Document kind && "timestamp".equals(kind.get("$type"));
            set.put(field, isTimestamp ? nextTimestamp() : now);
          });
    }
  }

  /** Later than every one before, as MongoDB's are; the seconds are in the upper half. */
  private BsonTimestamp nextTimestamp() {
    long now = Instant.now().getEpochSecond() << 32 | 1;
    return new BsonTimestamp(lastTimestamp.updateAndGet(last -> Math.max(last + 1, now)));
  }

  private static void countInserted(Document query, Document answer) {
    List<Document> errors = documents(answer.get("writeErrors"));
    if (errors.isEmpty()) {
      return;
    }
    boolean ordered = !Boolean.FALSE.equals(query.get("ordered"));
    int all = documents(query.get("documents")).size();
    answer.put("n", ordered ? number(errors.get(0).get("index")) : all - errors.size());
  }

  /** Each update sees what those before it did; one by pipeline becomes replacements by what the pipeline computes. */
  private Document updateOneByOne(Channel channel, String database, Document query) {
    int matched = 0;
    int modified = 0;
    List<Document> upserted = new ArrayList<>();
    List<Document> errors = new ArrayList<>();
    boolean ordered = !Boolean.FALSE.equals(query.get("ordered"));
    List<Document> updates = documents(query.get("updates"));
    for (int index = 0; index < updates.size() && !(ordered && !errors.isEmpty()); index++) {
      Document update = updates.get(index);
      List<Document> replacements = replacements(channel, database, query.get("update"), update);
      if (replacements.isEmpty()
          && update.get("u") instanceof Collection<?> pipeline
          && Boolean.TRUE.equals(update.get("upsert"))) {
        Document inserted = upserted((Document) update.get("q"), pipeline);
        Document answer = insert(channel, database, query.get("update"), inserted);
        List<Document> failures = documents(answer.get("writeErrors"));
        if (failures.isEmpty()) {
          matched++;
          upserted.add(withIndex(index, new Document("_id", inserted.get("_id"))));
        }
        for (Document failure : failures) {
          errors.add(withIndex(index, failure));
        }
      }
      for (Document replacement : replacements) {
        Document single = new Document("update", query.get("update"));
        single.put("updates", new ArrayList<>(List.of(replacement)));
        single.put("$db", database);
        Document answer = super.handleCommand(channel, database, "update", single);
        matched += number(answer.get("n"));
        modified += number(answer.get("nModified"));
        for (Document each : documents(answer.get("upserted"))) {
          upserted.add(withIndex(index, each));
        }
        for (Document each : documents(answer.get("writeErrors"))) {
          errors.add(withIndex(index, each));
        }
      }
    }
    Document answer = new Document("n", matched);
    answer.put("nModified", modified);
    if (!upserted.isEmpty()) {
      answer.put("upserted", upserted);
    }
    if (!errors.isEmpty()) {
      answer.put("writeErrors", errors);
    }
    answer.put("ok", 1.0);
    return answer;
  }

  /** What an update by pipeline means for each document that it finds; any other update as it is. */
  private List<Document> replacements(Channel channel, String database, Object collection, Document update) {
    if (!(update.get("u") instanceof Collection<?> pipeline)) {
      narrow(database, collection, update, "q");
      return List.of(update);
    }
    List<Document> replacements = new ArrayList<>();
    int limit = Boolean.TRUE.equals(update.get("multi")) ? 0 : 1;
    Document query = new Document("q", update.get("q"));
    narrow(database, collection, query, "q");
    List<Document> found = find(channel, database, collection, query.get("q"), null, limit);
    for (Document changed : throughPipeline(found, pipeline)) {
      Document replacement = new Document("q", new Document("_id", changed.get("_id")));
      replacement.put("u", changed);
      replacements.add(replacement);
    }
    return replacements;
  }

  /** What an upsert by pipeline inserts: the fields that the filter compares with values, gone through the pipeline. */
  private static Document upserted(Document filter, Collection<?> pipeline) {
    Document start = new Document();
    filter.forEach(
        (field, value) -> {
          if (!field.startsWith("$") && !(value instanceof Document)) {
            start.put(field, value);
          }
        });
    return throughPipeline(List.of(start), pipeline).get(0);
  }

  private static List<Document> throughPipeline(List<Document> documents, Collection<?> pipeline) {
    Stream<Document> changed = documents.stream().map(Document::cloneDeeply);
    for (Document stage : documents(pipeline)) {
      String name = stage.keySet().iterator().next();
      changed =
          switch (name) {
            case "$set", "$addFields" -> new AddFieldsStage((Document) stage.get(name)).apply(changed);
            case "$unset" -> new UnsetStage(stage.get(name)).apply(changed);
            case "$replaceWith" -> new ReplaceRootStage(new Document("newRoot", stage.get(name))).apply(changed);
            default -> throw new MongoServerError(40324, "Location40324", name + " in an update is not implemented");
          };
    }
    return changed.toList();
  }

  private List<Document> find(
      Channel channel, String database, Object collection, Object filter, Object sort, int limit) {
    Document query = new Document("find", collection);
    query.put("filter", filter);
    query.putIfNotNull("sort", sort);
    query.put("limit", limit);
    query.put("batchSize", ALL);
    query.put("$db", database);
    Document answer = super.handleCommand(channel, database, "find", query);
    return documents(((Document) answer.get("cursor")).get("firstBatch"));
  }

  private Document insert(Channel channel, String database, Object collection, Document document) {
    Document command = new Document("insert", collection);
    command.put("documents", new ArrayList<>(List.of(document)));
    command.put("$db", database);
    return super.handleCommand(channel, database, "insert", command);
  }

  private Document findAndModifyByPipeline(Channel channel, String database, String command, Document query) {
    Object filter = query.getOrDefault("query", new Document());
    List<Document> found = find(channel, database, query.get(command), filter, query.get("sort"), 1);
    if (found.isEmpty()) {
      return Boolean.TRUE.equals(query.get("upsert")) ? findAndUpsert(channel, database, command, query) : nothingFound();
    }
    Document changed = throughPipeline(found, (Collection<?>) query.get("update")).get(0);
    Document replacement = new Document();
    replacement.putAll(query);
    replacement.remove("sort");
    replacement.put("query", new Document("_id", changed.get("_id")));
    replacement.put("update", changed);
    return super.handleCommand(channel, database, command, replacement);
  }

  private Document findAndUpsert(Channel channel, String database, String command, Document query) {
    Document filter = (Document) query.getOrDefault("query", new Document());
    Document inserted = upserted(filter, (Collection<?>) query.get("update"));
    for (Document failure : documents(insert(channel, database, query.get(command), inserted).get("writeErrors"))) {
      return error(number(failure.get("code")), "DuplicateKey", String.valueOf(failure.get("errmsg")));
    }
    Document last = new Document("n", 1);
    last.put("updatedExisting", false);
    last.put("upserted", inserted.get("_id"));
    Document answer = new Document("lastErrorObject", last);
    answer.put("value", Boolean.TRUE.equals(query.get("new")) ? inserted : null);
    answer.put("ok", 1.0);
    return answer;
  }

  private static Document nothingFound() {
    Document last = new Document("n", 0);
    last.put("updatedExisting", false);
    Document answer = new Document("lastErrorObject", last);
    answer.put("value", null);
    answer.put("ok", 1.0);
    return answer;
  }

  /** The stages of a pipeline under the older names that mongo-java-server knows. */
  private static List<Object> stages(Collection<?> pipeline) {
    List<Object> known = new ArrayList<>();
    for (Document stage : documents(pipeline)) {
      String name = stage.keySet().iterator().next();
      switch (name) {
        case "$set" -> known.add(new Document("$addFields", stage.get(name)));
        case "$replaceWith" -> known.add(new Document("$replaceRoot", new Document("newRoot", stage.get(name))));
        default -> known.add(stage);
      }
    }
    return known;
  }

  private List<Document> results(Channel channel, String database, Object collection, List<Object> stages) {
    Document query = new Document("aggregate", collection);
    query.put("pipeline", stages);
    query.put("cursor", new Document("batchSize", ALL));
    query.put("$db", database);
    Document answer = super.handleCommand(channel, database, "aggregate", query);
    return documents(((Document) answer.get("cursor")).get("firstBatch"));
  }

  /** Delete what has expired by the TTL indexes of all collections. */
  private void deleteExpired() {
    for (String database : databases()) {
      for (Document collection : batch(database, "listCollections", 1)) {
        Object name = collection.get("name");
        for (Document index : batch(database, "listIndexes", name)) {
          if (index.get("expireAfterSeconds") instanceof Number seconds) {
            String field = ((Document) index.get("key")).keySet().iterator().next();
            Instant expired = Instant.now().minusSeconds(seconds.longValue());
            Document command = deletion(database, name, new Document(field, new Document("$lte", expired)));
            write(ownChannel, database, "delete", command);
          }
        }
      }
    }
  }

  private List<String> databases() {
    List<String> names = new ArrayList<>(listDatabaseNames());
    names.remove(OPLOG_DATABASE);
    return names;
  }

  private void trimOplog(Instant before) {
    Document old = new Document("wall", new Document("$lt", before));
    Document command = deletion(OPLOG_DATABASE, OPLOG_COLLECTION_NAME, old);
    lock.writeLock().lock();
    try {
      super.handleCommand(ownChannel, OPLOG_DATABASE, "delete", command);
    } finally {
      lock.writeLock().unlock();
    }
  }

  private List<Document> batch(String database, String command, Object argument) {
    Document answer = super.handleCommand(ownChannel, database, command, new Document(command, argument));
    return documents(((Document) answer.get("cursor")).get("firstBatch"));
  }

  private static Document deletion(String database, Object collection, Document which) {
    Document deletion = new Document("q", which);
    deletion.put("limit", 0);
    Document command = new Document("delete", collection);
    command.put("deletes", new ArrayList<>(List.of(deletion)));
    command.put("$db", database);
    return command;
  }

  private void deleteExpiredForEver() {
    for (int turn = 1; true; turn++) {
      try {
        Thread.sleep(TTL_MILLISECONDS);
        deleteExpired();
        if (turn % TRIMMED_EVERY == 0) {
          trimOplog(Instant.now().minusSeconds(OPLOG_SECONDS));
        }
      } catch (InterruptedException stopped) {
        return;
      } catch (RuntimeException failure) { // say, a collection that was dropped meanwhile
        failure.printStackTrace();
      }
    }
  }

  private static Document noTransactions() {
    String reason = "Transaction numbers are only allowed on a replica set member or mongos";
    return error(20, "IllegalOperation", reason);
  }

  private static Document error(int code, String name, String message) {
    Document error = new Document("ok", 0.0);
    error.put("errmsg", message);
    error.put("code", code);
    error.put("codeName", name);
    return error;
  }

  private static Document withIndex(int index, Document of) {
    of.put("index", index);
    return of;
  }

  private static int number(Object value) {
    return value instanceof Number number ? number.intValue() : 0;
  }

  private static List<Document> documents(Object values) {
    List<Document> documents = new ArrayList<>();
    if (values instanceof Collection<?> collection) {
      collection.forEach(value -> documents.add((Document) value));
    }
    return documents;
  }

  /** Drivers of today refuse a server that is older than this. */
  private static final MongoVersion VERSION =
      new MongoVersion() {
        @Override
        public List<Integer> getVersionArray() {
          return List.of(5, 0, 0);
        }

        @Override
        public int getWireVersion() {
          return 13;
        }
      };

  public static void main(String[] arguments) throws IOException {
    int port = Integer.parseInt(arguments[0]);
    MongoStandIn backend = new MongoStandIn(Path.of(arguments[1]));
    backend.version(VERSION);
    backend.recover();
    MongoServer server = new MongoServer(backend);
    server.enableOplog(); // for change streams
    server.bind("127.0.0.1", port);
    Runtime.getRuntime().addShutdownHook(new Thread(server::shutdownNow));
    Thread expiry = new Thread(backend::deleteExpiredForEver, "expiry");
    expiry.setDaemon(true);
    expiry.start();
    System.out.println("listening on port " + port);
  }
}

#include "data/prepare.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/check.h"
#include "common/hash.h"
#include "common/status_macros.h"
#include "data/blob_source.h"
#include "data/prepare_log.h"

namespace longhaul {
namespace {

absl::Status Bad(const std::string& reason) {
  return absl::InvalidArgumentError("data: " + reason);
}

absl::Status CheckOptions(const PrepareOptions& o, const SampleFormat& format) {
  RETURN_IF_ERROR(CheckSampleFormat(format));
  if (o.block_bytes > kMaxBlockBytes || o.block_bytes < format.sample_bytes()) {
    return Bad(absl::StrCat("a block has ", format.sample_bytes(), " (one sample) to ",
                            kMaxBlockBytes, " bytes"));
  }
  if (o.shard_bytes < o.block_bytes || o.shard_bytes / o.block_bytes >= kMaxShardBlocks) {
    return Bad("a shard has 1 to 65,535 blocks");
  }
  if (!(o.validation >= 0 && o.validation <= 0.5)) return Bad("validation is 0 to 0.5");
  return absl::OkStatus();
}

uint32_t TokenBytes(uint32_t vocab_size) {
  return vocab_size <= 256 ? 1 : vocab_size <= 65536 ? 2 : 4;
}

std::vector<std::string> DomainsOf(const std::vector<InputFile>& inputs) {
  std::vector<std::string> domains;
  for (const InputFile& input : inputs) {
    if (domains.empty() || domains.back() != input.domain) domains.push_back(input.domain);
  }
  return domains;
}

// Everything that decides what is made.
Digest Fingerprint(const std::vector<InputFile>& inputs, const Tokenizer& tokenizer,
                   const PrepareOptions& o) {
  ByteWriter w;
  w.String("LH-prepare-inputs");
  w.Write(tokenizer.hash());
  w.U32(tokenizer.vocab_size());
  w.U32(o.sample_tokens), w.U32(o.block_bytes), w.U64(o.shard_bytes);
  w.U32(static_cast<uint32_t>(o.zstd_level)), w.F64(o.validation);
  w.String(o.json_field);
  w.Bool(o.strict);
  for (const InputFile& input : inputs) {
    w.String(input.domain), w.String(input.path);
    w.U8(static_cast<uint8_t>(input.format));
    w.U64(input.bytes), w.I64(input.modified_ns);
  }
  return Blake2b(w.str());
}

class Preparation {
 public:
  Preparation(const std::vector<InputFile>& inputs, Tokenizer& tokenizer,
              const PrepareOptions& options, Storage& out, const PrepareCallback& callback)
      : inputs_(inputs),
        tokenizer_(tokenizer),
        options_(options),
        out_(out),
        callback_(callback),
        log_(out),
        domains_(DomainsOf(inputs)),
        bytes_(tokenizer.hash() == NewByteTokenizer()->hash()) {
    format_.token_bytes = TokenBytes(tokenizer.vocab_size());
    format_.sample_tokens = options.sample_tokens;
    format_.tokenizer_hash = tokenizer.hash();
    for (const InputFile& input : inputs) progress_.bytes_total += input.bytes;
  }

  absl::StatusOr<PrepareReport> Run() {
    RETURN_IF_ERROR(CheckOptions(options_, format_));
    block_samples_ = static_cast<uint32_t>(options_.block_bytes / format_.sample_bytes());
    const uint64_t block_bytes = block_samples_ * format_.sample_bytes();
    shard_blocks_ = options_.shard_bytes / block_bytes;
    RETURN_IF_ERROR(out_.MakeFolder("shards"));
    RETURN_IF_ERROR(Restore());
    while (state_.cursor.file < inputs_.size()) {
      RETURN_IF_ERROR(ReadFile(inputs_[state_.cursor.file]));
      const size_t next = state_.cursor.file + 1;
      const bool domain_ends =
          next == inputs_.size() || inputs_[next].domain != inputs_[next - 1].domain;
      NextFile();
      if (domain_ends) RETURN_IF_ERROR(EndDomain());
    }
    return Report();
  }

 private:
  // ---- coming back ----

  absl::Status Restore() {
    const Digest fingerprint = Fingerprint(inputs_, tokenizer_, options_);
    absl::StatusOr<PrepareState> state = log_.ReadState();
    if (state.ok() && state->fingerprint != fingerprint) {
      return absl::FailedPreconditionError(
          "data: the output folder holds an unfinished preparation of other inputs, or with other "
          "options; give them again to go on, or --restart to begin anew");
    }
    if (!state.ok()) {  // none, or damaged: nothing can be believed
      state_.fingerprint = fingerprint;
      RETURN_IF_ERROR(log_.WriteState(state_));
      return log_.StartBlocks(state_);
    }
    state_ = std::move(*state);
    ASSIGN_OR_RETURN(const std::vector<BlockRecord> blocks, log_.ReadBlocks(state_));
    RETURN_IF_ERROR(log_.StartBlocks(state_));
    for (const BlockRecord& block : blocks) RETURN_IF_ERROR(Replay(block));
    progress_.resumed = true;
    bytes_resumed_ = BytesDone();
    return FinishFullShard();
  }

  absl::Status Replay(const BlockRecord& block) {
    ByteSpan stored = AsBytes(block.stored);
    ShardIndex probe;  // of this block alone, to decode it with
    probe.header.format = format_;
    probe.header.block_samples = block_samples_;
    probe.header.samples = block.decoded_bytes / format_.sample_bytes();
    probe.header.blocks = 1;
    probe.rows.resize(1);
    if (probe.header.samples == 0 || probe.header.samples > block_samples_) {
      return absl::DataLossError("prepare.blocks holds a block of another size");
    }
    ASSIGN_OR_RETURN(const std::string decoded, DecodeBlock(probe, 0, stored));
    builder().Add(AsBytes(decoded), stored);
    shard_domain_ = DomainBefore(block.cursor);
    return Remember(block);
  }

  // The domain of the block that ends at this cursor.
  uint32_t DomainBefore(const InputCursor& cursor) const {
    const bool file_ended = cursor.offset == 0 && cursor.tokens == 0 && cursor.file > 0;
    const std::string& name = inputs_[file_ended ? cursor.file - 1 : cursor.file].domain;
    return static_cast<uint32_t>(std::find(domains_.begin(), domains_.end(), name) -
                                 domains_.begin());
  }

  // ---- reading ----

  absl::Status ReadFile(const InputFile& input) {
    const ReadOptions read{.tokenizer = &tokenizer_, .json_field = options_.json_field};
    ASSIGN_OR_RETURN(const std::unique_ptr<RecordReader> reader,
                     OpenRecords(input, read, state_.cursor.offset));
    Record record;
    while (true) {
      ASSIGN_OR_RETURN(const bool more, reader->Next(record));
      if (!more) return absl::OkStatus();
      RETURN_IF_ERROR(Use(input, record));
      state_.cursor.offset = record.end;
      state_.cursor.tokens = 0;
      RETURN_IF_ERROR(Tell());
    }
  }

  absl::Status Use(const InputFile& input, Record& record) {
    if (!record.problem.empty()) return Quarantine(input, record, record.problem);
    if (!record.tokens.empty()) {
      for (const uint32_t token : record.tokens) {
        if (token >= tokenizer_.vocab_size()) {
          return Bad(absl::StrCat(input.path, ": token ", token, " in the bytes from ",
                                  record.offset, " on is outside the vocabulary of ",
                                  tokenizer_.vocab_size()));
        }
      }
      return Feed(Packed(record.tokens));
    }
    if (bytes_) {
      // Bytes are their own tokens. Lines of JSON hold documents: a line end keeps them apart.
      if (input.format == InputFormat::kJsonl) record.text.push_back('\n');
      return Feed(record.text);
    }
    std::vector<uint32_t> tokens;
    if (auto status = tokenizer_.Encode(record.text, tokens); !status.ok()) {
      return Quarantine(input, record, std::string(status.message()));
    }
    if (record.ends_document && tokenizer_.document_end()) {
      tokens.push_back(*tokenizer_.document_end());
    }
    return Feed(Packed(tokens));
  }

  std::string Packed(const std::vector<uint32_t>& tokens) const {
    std::string bytes(tokens.size() * format_.token_bytes, '\0');
    for (size_t i = 0; i < tokens.size(); ++i) {
      std::memcpy(bytes.data() + i * format_.token_bytes, &tokens[i], format_.token_bytes);
    }
    return bytes;
  }

  absl::Status Quarantine(const InputFile& input, const Record& record, const std::string& reason) {
    if (options_.strict) {
      return Bad(absl::StrCat(input.path, ", byte ", record.offset, ": ", reason));
    }
    if (state_.quarantine.size() + new_quarantine_.size() >= kMaxQuarantine) {
      return Bad(absl::StrCat("more than ", kMaxQuarantine, " records cannot be used; the last: ",
                              input.path, ", byte ", record.offset, ": ", reason));
    }
    new_quarantine_.push_back({input.path, record.offset, record.end - record.offset, reason});
    return absl::OkStatus();
  }

  // The tokens of the record at the cursor, as they are stored.
  absl::Status Feed(std::string_view packed) {
    uint64_t at = state_.cursor.tokens * format_.token_bytes;
    const uint64_t full = block_samples_ * format_.sample_bytes();
    while (at < packed.size()) {
      const uint64_t size = std::min<uint64_t>(packed.size() - at, full - buffer_.size());
      buffer_.append(packed.substr(at, size));
      at += size;
      state_.cursor.tokens = at / format_.token_bytes;
      if (buffer_.size() < full) continue;
      RETURN_IF_ERROR(FlushBlock(buffer_.size()));
      RETURN_IF_ERROR(FinishFullShard());
    }
    return absl::OkStatus();
  }

  void NextFile() { state_.cursor = {.file = state_.cursor.file + 1}; }

  // ---- writing ----

  ShardBuilder& builder() {
    if (!builder_) builder_.emplace(format_, BlockCodec::kZstd, block_samples_);
    return *builder_;
  }

  absl::Status FlushBlock(size_t bytes) {
    const ByteSpan decoded = AsBytes(buffer_).first(bytes);
    BlockRecord block{.cursor = state_.cursor,
                      .quarantine = std::move(new_quarantine_),
                      .tokens_left = (buffer_.size() - bytes) / format_.token_bytes,
                      .stored = EncodeBlock(BlockCodec::kZstd, options_.zstd_level, decoded),
                      .decoded_bytes = static_cast<uint32_t>(bytes)};
    new_quarantine_.clear();
    shard_domain_ = DomainBefore(state_.cursor);
    builder().Add(decoded, AsBytes(block.stored));
    buffer_.clear();
    return Remember(block);
  }

  absl::Status Remember(const BlockRecord& block) {
    state_.cursor = block.cursor;
    state_.tokens_left += block.tokens_left;
    pending_.insert(pending_.end(), block.quarantine.begin(), block.quarantine.end());
    return log_.AppendBlock(block);
  }

  absl::Status FinishFullShard() {
    if (!builder_) return absl::OkStatus();
    const bool short_block = builder_->samples() % block_samples_ != 0;
    const bool full = builder_->blocks() >= shard_blocks_;
    const bool domain_ended = state_.cursor.file == inputs_.size() ||
                              inputs_[state_.cursor.file].domain != domains_[shard_domain_];
    return full || short_block || domain_ended ? FinishShard() : absl::OkStatus();
  }

  absl::Status EndDomain() {
    const size_t whole = buffer_.size() / format_.sample_bytes() * format_.sample_bytes();
    if (whole > 0) {
      RETURN_IF_ERROR(FlushBlock(whole));
    } else {
      state_.tokens_left += buffer_.size() / format_.token_bytes;
      buffer_.clear();
    }
    return builder_ ? FinishShard() : absl::OkStatus();
  }

  absl::Status FinishShard() {
    const ShardBuilder::Result shard = builder_->Finish();
    builder_.reset();
    RETURN_IF_ERROR(WriteAtomically(out_, BlobPath(shard.index.blob_id), AsBytes(shard.file)));
    const ShardHeader& header = shard.index.header;
    state_.shards.push_back({.blob_id = shard.index.blob_id,
                             .logical_id = header.logical_id,
                             .samples = header.samples,
                             .file_bytes = header.file_bytes,
                             .index_bytes = static_cast<uint32_t>(header.index_bytes()),
                             .domain = shard_domain_});
    state_.quarantine.insert(state_.quarantine.end(), pending_.begin(), pending_.end());
    pending_.clear();
    // The cursor is where the last block ended, or where the domain did: behind all of these.
    state_.quarantine.insert(state_.quarantine.end(), new_quarantine_.begin(),
                             new_quarantine_.end());
    new_quarantine_.clear();
    RETURN_IF_ERROR(log_.WriteState(state_));
    return log_.StartBlocks(state_);
  }

  // ---- reporting ----

  uint64_t BytesDone() const {
    uint64_t done = state_.cursor.offset;
    for (size_t i = 0; i < state_.cursor.file; ++i) done += inputs_[i].bytes;
    return done;
  }

  absl::Status Tell() {
    progress_.bytes_done = BytesDone();
    progress_.shards = state_.shards.size();
    progress_.quarantined = state_.quarantine.size() + pending_.size() + new_quarantine_.size();
    return callback_(progress_) ? absl::OkStatus() : absl::CancelledError("data: stopped");
  }

  absl::StatusOr<PrepareReport> Report() {
    PrepareReport report;
    Manifest& m = report.manifest;
    m.format = format_;
    m.vocab_size = tokenizer_.vocab_size();
    m.tokenizer = tokenizer_.name();
    m.shards = state_.shards;
    for (const std::string& name : domains_) m.domains.push_back({name, 0});
    for (uint32_t i = 0; i < m.domains.size(); ++i) {
      const uint64_t samples = m.DomainSamples(i);
      const uint64_t needed = options_.validation > 0 ? 2 : 1;
      if (samples < needed) {
        return Bad(absl::StrCat("domain ", m.domains[i].name, " has ", samples, " samples of ",
                                format_.sample_tokens, " tokens; at least ", needed,
                                " are needed"));
      }
      if (options_.validation > 0) {
        m.domains[i].validation_samples = std::max<uint64_t>(
            1, static_cast<uint64_t>(options_.validation * static_cast<double>(samples)));
      }
    }
    if (absl::Status status = CheckManifest(m); !status.ok()) return status;
    report.quarantine = state_.quarantine;
    report.quarantine.insert(report.quarantine.end(), new_quarantine_.begin(),
                             new_quarantine_.end());
    report.tokens = m.Samples() * format_.sample_tokens;
    report.tokens_left = state_.tokens_left;
    report.bytes_resumed = bytes_resumed_;
    return report;
  }

  const std::vector<InputFile>& inputs_;
  Tokenizer& tokenizer_;
  const PrepareOptions& options_;
  Storage& out_;
  const PrepareCallback& callback_;
  PrepareLog log_;
  const std::vector<std::string> domains_;  // by number
  const bool bytes_;                        // tokens are the text's bytes
  SampleFormat format_;
  uint32_t block_samples_ = 0;
  uint64_t shard_blocks_ = 0;

  PrepareState state_;
  std::string buffer_;  // tokens of the block at hand
  std::optional<ShardBuilder> builder_;
  uint32_t shard_domain_ = 0;
  std::vector<QuarantinedRecord> new_quarantine_;  // since the last block
  std::vector<QuarantinedRecord> pending_;         // since the last shard, in blocks
  PrepareProgress progress_;
  uint64_t bytes_resumed_ = 0;
};

void AppendJsonText(const std::string& text, std::string& out) {
  out += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\', out += c;
    } else if (byte < 0x20 || byte >= 0x7F) {
      // Paths need not be UTF-8: bytes that are not plain are written by their number.
      absl::StrAppendFormat(&out, "\\u%04x", byte);
    } else {
      out += c;
    }
  }
  out += '"';
}

}  // namespace

absl::StatusOr<PrepareReport> Prepare(const std::vector<InputFile>& inputs, Tokenizer& tokenizer,
                                      const PrepareOptions& options, Storage& out,
                                      const PrepareCallback& callback) {
  return Preparation(inputs, tokenizer, options, out, callback).Run();
}

absl::Status FinishPreparation(const Manifest& manifest,
                               const std::vector<QuarantinedRecord>& quarantine, Storage& out) {
  std::string list;
  for (const QuarantinedRecord& q : quarantine) {
    list += "{\"path\":";
    AppendJsonText(q.path, list);
    absl::StrAppend(&list, ",\"offset\":", q.offset, ",\"bytes\":", q.bytes, ",\"reason\":");
    AppendJsonText(q.reason, list);
    list += "}\n";
  }
  if (!list.empty()) RETURN_IF_ERROR(WriteAtomically(out, kQuarantineFile, AsBytes(list)));
  RETURN_IF_ERROR(WriteAtomically(out, kManifestFile, AsBytes(EncodeManifest(manifest))));
  return AbandonPreparation(out);
}

absl::Status AbandonPreparation(Storage& out) { return PrepareLog(out).Remove(); }

absl::StatusOr<Manifest> ReadManifest(Storage& folder) {
  ASSIGN_OR_RETURN(const std::string bytes, ReadWhole(folder, kManifestFile, kMaxManifestBytes));
  return ParseManifest(AsBytes(bytes));
}

}  // namespace longhaul

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "common/status_macros.h"
#include "common/storage.h"

namespace longhaul {
namespace {

namespace fs = std::filesystem;

absl::Status ErrnoStatus(const std::string& action, const std::string& path, int error) {
  std::string text = action + " " + path + ": " + std::strerror(error);
  if (error == ENOENT) return absl::NotFoundError(text);
  if (error == ENOSPC || error == EDQUOT) {
    return absl::ResourceExhaustedError(text + " (free some space on this disk, then start again)");
  }
  if (error == EIO) text += " (check this disk, then start again)";
  return absl::UnavailableError(text);
}

std::string ParentOf(const std::string& path) {
  size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

class PosixAppendFile : public AppendFile {
 public:
  PosixAppendFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  absl::Status Append(ByteSpan bytes) override {
    while (!bytes.empty()) {
      ssize_t n = ::write(fd_.get(), bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return ErrnoStatus("write", path_, errno);
      bytes = bytes.subspan(static_cast<size_t>(n));
    }
    return absl::OkStatus();
  }

  absl::Status Sync() override {
    if (::fdatasync(fd_.get()) != 0) return ErrnoStatus("fdatasync", path_, errno);
    return absl::OkStatus();
  }

 private:
  std::string path_;
  Descriptor fd_;
};

class FileStorage : public Storage {
 public:
  explicit FileStorage(std::string root) : root_(std::move(root)) {}

  absl::StatusOr<std::unique_ptr<AppendFile>> OpenAppend(const std::string& path,
                                                         bool truncate) override {
    std::string full = Full(path);
    int fd = ::open(full.c_str(),
                    O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | (truncate ? O_TRUNC : 0), 0600);
    if (fd < 0) return ErrnoStatus("open", full, errno);
    return std::unique_ptr<AppendFile>(std::make_unique<PosixAppendFile>(full, fd));
  }

  absl::StatusOr<std::string> Read(const std::string& path, uint64_t offset,
                                   uint64_t size) override {
    std::string full = Full(path);
    Descriptor fd(::open(full.c_str(), O_RDONLY | O_CLOEXEC));
    if (fd.get() < 0) return ErrnoStatus("open", full, errno);
    struct stat info {};
    if (::fstat(fd.get(), &info) != 0) return ErrnoStatus("stat", full, errno);
    if (offset >= static_cast<uint64_t>(info.st_size)) return std::string();
    std::string out(std::min<uint64_t>(size, static_cast<uint64_t>(info.st_size) - offset), '\0');
    size_t done = 0;
    while (done < out.size()) {
      ssize_t n = ::pread(fd.get(), out.data() + done, out.size() - done,
                          static_cast<off_t>(offset + done));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return ErrnoStatus("read", full, errno);
      if (n == 0) break;
      done += static_cast<size_t>(n);
    }
    out.resize(done);
    return out;
  }

  absl::StatusOr<uint64_t> Size(const std::string& path) override {
    struct stat info {};
    if (::stat(Full(path).c_str(), &info) != 0) return ErrnoStatus("stat", Full(path), errno);
    return static_cast<uint64_t>(info.st_size);
  }

  bool Exists(const std::string& path) override {
    std::error_code ignored;
    return fs::exists(Full(path), ignored);
  }

  std::vector<std::string> List(const std::string& folder) override {
    std::vector<std::string> names;
    std::error_code error;
    for (fs::directory_iterator it(Full(folder), error), end; !error && it != end;
         it.increment(error)) {
      names.push_back(it->path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  absl::Status Rename(const std::string& from, const std::string& to) override {
    if (::rename(Full(from).c_str(), Full(to).c_str()) != 0)
      return ErrnoStatus("rename", Full(from), errno);
    return absl::OkStatus();
  }

  absl::Status Remove(const std::string& path) override {
    std::error_code error;
    fs::remove_all(Full(path), error);
    if (error) return ErrnoStatus("remove", Full(path), error.value());
    return absl::OkStatus();
  }

  absl::Status MakeFolder(const std::string& folder) override {
    if (Exists(folder)) return absl::OkStatus();
    const std::string parent = ParentOf(folder);
    if (!parent.empty()) RETURN_IF_ERROR(MakeFolder(parent));
    std::error_code error;
    fs::create_directory(Full(folder), error);
    if (error) return ErrnoStatus("make folder", Full(folder), error.value());
    return SyncFolder(parent);
  }

  absl::Status SyncFolder(const std::string& folder) override {
    std::string full = Full(folder);
    Descriptor fd(::open(full.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd.get() < 0) return ErrnoStatus("open", full, errno);
    if (::fsync(fd.get()) != 0) return ErrnoStatus("fsync", full, errno);
    return absl::OkStatus();
  }

 private:
  std::string Full(const std::string& path) const {
    return path.empty() ? root_ : root_ + "/" + path;
  }

  std::string root_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Storage>> OpenFileStorage(const std::string& root) {
  std::error_code error;
  fs::create_directories(root, error);
  if (error) return ErrnoStatus("make folder", root, error.value());
  return std::unique_ptr<Storage>(std::make_unique<FileStorage>(root));
}

absl::StatusOr<std::string> ReadWhole(Storage& storage, const std::string& path,
                                      uint64_t max_bytes) {
  ASSIGN_OR_RETURN(uint64_t size, storage.Size(path));
  if (size > max_bytes) return absl::InvalidArgumentError(path + " is larger than it may be");
  return storage.Read(path, 0, size);
}

absl::Status WriteAtomically(Storage& storage, const std::string& path, ByteSpan bytes) {
  const std::string temporary = path + ".tmp";
  {
    ASSIGN_OR_RETURN(std::unique_ptr<AppendFile> file,
                     storage.OpenAppend(temporary, /*truncate=*/true));
    RETURN_IF_ERROR(file->Append(bytes));
    RETURN_IF_ERROR(file->Sync());
  }
  RETURN_IF_ERROR(storage.Rename(temporary, path));
  return storage.SyncFolder(ParentOf(path));
}

}  // namespace longhaul

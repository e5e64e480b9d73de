/// wts_info: what is in a `.wts` file, and whether it is whole and what its sidecar says.
///
/// Exit codes: 0 all is well; 1 the file can be read, and does not agree with its sidecar or lacks a tensor asked for; 2 it cannot be
/// read, or the call is wrong.

#include <porter/wts.hpp>
#include <porter/wts/write.hpp>

#include <cstdlib>
#include <exception>
#include <iostream>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace {

using porter::detail::json_quoted;

constexpr const char* usage = R"(usage: wts_info [options] FILE

Reads all of a .wts file (tensorrtx, nvidia-v1 or nvidia-v2), checks every character, compares the values with the
CRC-32 in FILE.json where porter wrote one, and lists the tensors.

  --digest          CRC-32 and SHA-256 of each tensor's values; the latter is compared with the sidecar's
  --json            the list, or the error, as JSON
  --only NAME       read this tensor alone (may be repeated)
  --threads N       threads that decode, 0 for as many as the machine has (default 1)
  --narrow TYPE     half or bfloat16: round floats, and say what that changes
  --no-sidecar      do not look at FILE.json
  --write OUT       write what was read to OUT and OUT.json, which must not be there
  --dialect D       the dialect of OUT: tensorrtx, nvidia-v1 or nvidia-v2 (default: the file's)
  --help

Exit codes: 0 all is well; 1 it does not agree with its sidecar, or lacks a tensor asked for; 2 it cannot be read.
)";

struct Arguments {
    porter::Options options;
    std::string path, out;
    std::optional<porter::Dialect> dialect; // of `out`
    bool digest = false, json = false, help = false;
};

struct UsageError {
    std::string message;
};

unsigned read_threads(const std::string& text) {
    char* end = nullptr;
    const unsigned long number = std::strtoul(text.c_str(), &end, 10);
    if (text.empty() || text.size() > 4 || *end != '\0' || text[0] == '-' || text[0] == '+') {
        throw UsageError{"--threads needs a number, not '" + porter::detail::printable(text) + "'"};
    }
    return static_cast<unsigned>(number);
}

porter::Narrow read_narrow(const std::string& text) {
    if (text != "half" && text != "bfloat16") {
        throw UsageError{"--narrow needs half or bfloat16, not '" + porter::detail::printable(text) + "'"};
    }
    return text == "half" ? porter::Narrow::half : porter::Narrow::bfloat16;
}

porter::Dialect read_dialect(const std::string& text) {
    for (const porter::Dialect dialect : {porter::Dialect::tensorrtx, porter::Dialect::nvidia_v1, porter::Dialect::nvidia_v2}) {
        if (text == name_of(dialect)) {
            return dialect;
        }
    }
    throw UsageError{"--dialect needs tensorrtx, nvidia-v1 or nvidia-v2, not '" + porter::detail::printable(text) + "'"};
}

Arguments read_arguments(const std::vector<std::string>& words) {
    Arguments arguments;
    bool options_end = false;
    for (std::size_t i = 0; i < words.size(); ++i) {
        const std::string& word = words[i];
        const auto value = [&]() -> const std::string& {
            if (i + 1 == words.size()) {
                throw UsageError{word + " needs a value"};
            }
            return words[++i];
        };
        if (options_end || word.empty() || word[0] != '-') {
            if (!arguments.path.empty()) {
                throw UsageError{"one file at a time"};
            }
            arguments.path = word;
        } else if (word == "--") {
            options_end = true;
        } else if (word == "--digest") {
            arguments.digest = true;
        } else if (word == "--json") {
            arguments.json = true;
        } else if (word == "--no-sidecar") {
            arguments.options.sidecar = false;
        } else if (word == "--only") {
            arguments.options.only.push_back(value());
        } else if (word == "--threads") {
            arguments.options.threads = read_threads(value());
        } else if (word == "--narrow") {
            arguments.options.narrow = read_narrow(value());
        } else if (word == "--write") {
            arguments.out = value();
        } else if (word == "--dialect") {
            arguments.dialect = read_dialect(value());
        } else if (word == "--help" || word == "-h") {
            arguments.help = true;
        } else {
            throw UsageError{"unknown option '" + porter::detail::printable(word) + "'"};
        }
    }
    if (arguments.path.empty() && !arguments.help) {
        throw UsageError{"which file?"};
    }
    if (arguments.dialect && arguments.out.empty()) {
        throw UsageError{"--dialect is that of --write"};
    }
    return arguments;
}

std::string shape_of(const porter::Tensor& tensor) {
    return tensor.shape_known() ? porter::detail::shape_text(tensor.shape()) : "?";
}

std::string digest_of(const porter::Tensor& tensor, bool wanted) {
    return wanted ? tensor.sha256() : std::string();
}

/// Whether the values have the sidecar's SHA-256; also where there is none, or they were narrowed.
bool agrees(const porter::Tensor& tensor, const std::string& digest, bool narrowed) {
    return digest.empty() || narrowed || tensor.recorded_sha256().empty() || digest == tensor.recorded_sha256();
}

bool print_json(const porter::Weights& weights, const Arguments& arguments) {
    const bool narrowed = arguments.options.narrow != porter::Narrow::none;
    bool good = true;
    std::cout << "{\"path\": " << json_quoted(weights.path()) << ", \"dialect\": " << json_quoted(name_of(weights.dialect()))
              << ", \"sidecar\": " << (weights.has_sidecar() ? "true" : "false") << ", \"tensors\": [";
    const char* separator = "\n ";
    for (const porter::Tensor& tensor : weights) {
        std::cout << separator << "{\"name\": " << json_quoted(tensor.name()) << ", \"dtype\": " << json_quoted(name_of(tensor.dtype()))
                  << ", \"shape\": " << (tensor.shape_known() ? porter::detail::shape_text(tensor.shape()) : "null")
                  << ", \"count\": " << tensor.count() << ", \"nbytes\": " << tensor.nbytes()
                  << ", \"original_dtype\": " << json_quoted(tensor.original_dtype()) << ", \"line\": " << tensor.line()
                  << ", \"offset\": " << tensor.offset();
        const std::string digest = digest_of(tensor, arguments.digest);
        if (arguments.digest) {
            std::cout << ", \"crc32\": " << json_quoted(porter::detail::hex_text(tensor.crc32())) << ", \"sha256\": " << json_quoted(digest);
        }
        if (narrowed) {
            std::cout << ", \"overflowed\": " << tensor.overflowed() << ", \"underflowed\": " << tensor.underflowed()
                      << ", \"inexact\": " << tensor.inexact();
        }
        const bool same = agrees(tensor, digest, narrowed);
        if (!same) {
            std::cout << ", \"agrees\": false";
        }
        good = good && same;
        std::cout << "}";
        separator = ",\n ";
    }
    std::cout << "], \"notices\": [";
    separator = "";
    for (const std::string& notice : weights.notices()) {
        std::cout << separator << json_quoted(notice);
        separator = ", ";
    }
    std::cout << "], \"ok\": " << (good ? "true" : "false") << "}\n";
    return good;
}

bool print_table(const porter::Weights& weights, const Arguments& arguments) {
    const bool narrowed = arguments.options.narrow != porter::Narrow::none;
    bool good = true;
    std::size_t nbytes = 0, name_width = 4, shape_width = 5;
    for (const porter::Tensor& tensor : weights) {
        nbytes += tensor.nbytes();
        name_width = std::max(name_width, porter::detail::characters(porter::detail::printable(tensor.name())));
        shape_width = std::max(shape_width, shape_of(tensor).size());
    }
    std::cout << "wts:" << name_of(weights.dialect()) << "  " << weights.size() << (weights.size() == 1 ? " tensor, " : " tensors, ")
              << nbytes << " bytes of values\n";
    const auto padded = [](std::string text, std::size_t width) {
        text.resize(text.size() + width - std::min(width, porter::detail::characters(text)), ' ');
        return text + "  ";
    };
    std::cout << padded("NAME", name_width) << padded("SHAPE", shape_width) << "DTYPE     COUNT";
    std::cout << (narrowed ? "  OVERFLOWED  TO ZERO  INEXACT" : "") << (arguments.digest ? "  CRC32  SHA256" : "") << "\n";
    for (const porter::Tensor& tensor : weights) {
        std::cout << padded(porter::detail::printable(tensor.name()), name_width) << padded(shape_of(tensor), shape_width)
                  << padded(name_of(tensor.dtype()), 8) << tensor.count();
        if (narrowed) {
            std::cout << "  " << tensor.overflowed() << "  " << tensor.underflowed() << "  " << tensor.inexact();
        }
        const std::string digest = digest_of(tensor, arguments.digest);
        if (arguments.digest) {
            std::cout << "  " << porter::detail::hex_text(tensor.crc32()) << "  " << digest;
        }
        const bool same = agrees(tensor, digest, narrowed);
        std::cout << (same ? "\n" : "  DIFFERS from the sidecar\n");
        good = good && same;
    }
    for (const std::string& notice : weights.notices()) {
        std::cerr << "note: " << porter::detail::printable(notice) << "\n";
    }
    const bool whole = arguments.options.only.empty();
    std::cout << "check  " << (whole ? "every value" : "the values asked for") << (weights.has_sidecar() ? " and the sidecar" : "")
              << (good ? ": ok\n" : ": DIFFERS\n");
    return good;
}

/// Says what is wrong, and gives the exit code.
int report(const porter::Error& error, bool json) {
    if (json) {
        std::cout << "{\"error\": {\"code\": " << json_quoted(porter::id(error.code)) << ", \"message\": " << json_quoted(error.message)
                  << ", \"path\": " << json_quoted(error.path) << ", \"offset\": " << error.offset << ", \"line\": " << error.line
                  << ", \"column\": " << error.column << ", \"tensor\": " << json_quoted(error.tensor)
                  << ", \"hint\": " << json_quoted(error.hint) << "}, \"ok\": false}\n";
    } else {
        std::cerr << error.text() << "\n";
    }
    switch (error.code) {
    case porter::ErrorCode::sidecar_disagrees:
    case porter::ErrorCode::checksum_mismatch:
    case porter::ErrorCode::value_not_of_type:
    case porter::ErrorCode::missing_tensor: return 1;
    default: return 2;
    }
}

void write(const porter::Weights& weights, const Arguments& arguments) {
    porter::save(arguments.out, weights, arguments.dialect.value_or(weights.dialect()));
    if (weights.has_sidecar()) {
        std::cerr << "note: axes, roles, metadata and attachments of the sidecar are not written; porter convert keeps them\n";
    }
}

int run(const std::vector<std::string>& words) {
    const Arguments arguments = read_arguments(words);
    if (arguments.help) {
        std::cout << usage;
        return 0;
    }
    const porter::Result result = porter::try_load(arguments.path, arguments.options);
    if (!result) {
        return report(result.error, arguments.json);
    }
    const bool good = arguments.json ? print_json(result.weights, arguments) : print_table(result.weights, arguments);
    if (good && !arguments.out.empty()) {
        write(result.weights, arguments);
    }
    std::cout.flush();
    if (!std::cout) {
        std::cerr << "error: the output cannot be written\n";
        return 2;
    }
    return good ? 0 : 1;
}

} // namespace

int main(int argc, char** argv) {
    try {
        return run(std::vector<std::string>(argv + 1, argv + argc));
    } catch (const UsageError& error) {
        std::cerr << "error: " << error.message << "\n\n" << usage;
    } catch (const porter::WtsError& error) {
        std::cerr << error.error().text() << "\n";
    } catch (const std::exception& error) {
        std::cerr << "error: " << error.what() << "\n";
    }
    return 2;
}
